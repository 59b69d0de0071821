"""How pages look: light and dark, from a phone to a wide screen, without anything from outside."""

__all__ = ["STYLE"]

_LIGHT = (
    "--ground:#f6f8fa;--card:#fff;--ink:#17212b;--quiet:#51606e;--line:#d9e0e7;--accent:#0a6a6a;"
    "--on-accent:#fff;--wash:#e3f1f0;--fault:#b42318;--fault-wash:#fdecea;--warning:#7d5200;"
    "--warning-wash:#fdf3d8;--good:#1a6b3c;--bar:#bfe0dc;"
    "--c1:#0a6a6a;--c2:#b0521b;--c3:#5b4bb3;--c4:#8a1f5c;--c5:#3f6b1f;--c6:#1f5fa8;color-scheme:light"
)
_DARK = (
    "--ground:#0f151b;--card:#18212a;--ink:#e7edf3;--quiet:#a3b2c0;--line:#2d3a46;--accent:#5ccfc4;"
    "--on-accent:#06201e;--wash:#15312f;--fault:#ff9c92;--fault-wash:#3a1d1b;--warning:#f0c466;"
    "--warning-wash:#352a12;--good:#7ed6a0;--bar:#1f4a47;"
    "--c1:#5ccfc4;--c2:#f2a673;--c3:#b3a6ff;--c4:#f08cc0;--c5:#a5d37c;--c6:#7db7f5;color-scheme:dark"
)

STYLE = (
    f"""
:root{{{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
:root[data-theme=light]{{{_LIGHT}}}
:root[data-theme=dark]{{{_DARK}}}
"""
    + """
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:4rem;-webkit-text-size-adjust:100%}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}*{transition:none!important}}
body{margin:0;background:var(--ground);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
 overflow-wrap:break-word}
main,.bar>div,footer{max-width:76rem;margin:0 auto;padding:0 1.25rem}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem;z-index:9;background:var(--card);padding:.4rem .8rem}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:4px}
.bar{position:sticky;top:0;z-index:5;background:var(--card);border-bottom:1px solid var(--line)}
.bar>div{display:flex;gap:.25rem;align-items:center;min-height:3rem}
.bar nav{display:flex;gap:.1rem;overflow-x:auto;flex:1;scrollbar-width:thin}
.bar nav a{padding:.45rem .65rem;color:var(--quiet);text-decoration:none;white-space:nowrap;
 border-radius:6px;font-size:.92rem}
.bar nav a:hover{color:var(--accent);background:var(--wash)}
a{color:var(--accent)}
h1{font-size:clamp(1.6rem,4.5vw,2.4rem);line-height:1.15;margin:2rem 0 .4rem;letter-spacing:-.02em}
h2{font-size:1.4rem;line-height:1.25;margin:3rem 0 .3rem;letter-spacing:-.01em}
h3{font-size:1.05rem;margin:1.6rem 0 .4rem}
p{margin:.4rem 0 .8rem;max-width:62rem}
.lead{font-size:1.12rem;color:var(--quiet);max-width:52rem}
.quiet{color:var(--quiet)}.small{font-size:.88rem}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--wash);
 padding:.1em .3em;border-radius:4px;overflow-wrap:anywhere}
.card{max-width:none}.card>:first-child{margin-top:0}.card>:last-child{margin-bottom:0}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem 1.2rem;
 margin:.8rem 0}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
.grid>*{margin:0;min-width:0}
.steps{display:flex;flex-wrap:wrap;gap:.8rem;list-style:none;margin:1.2rem 0;padding:0}
.steps li{flex:1 1 9.5rem;background:var(--card);border:1px solid var(--line);border-radius:12px;
 padding:.8rem 1rem;position:relative;overflow:hidden}
.steps li::before{content:"";position:absolute;left:0;bottom:0;height:4px;background:var(--accent);
 width:calc(var(--v)*100%)}
.steps b{display:block;font-size:1.7rem;line-height:1.2;font-variant-numeric:tabular-nums}
.steps span{display:block}.steps code{font-size:.76rem;padding:.1em 0;background:none}
.up{color:var(--good)}.down{color:var(--fault)}
.wide{overflow-x:auto;margin:.6rem 0;border:1px solid var(--line);border-radius:10px;
 background:var(--card)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.94rem}
th,td{padding:.42rem .8rem;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
thead th{border-top:0;vertical-align:bottom}
tbody th,thead th:first-child{text-align:left;font-weight:600}
tbody th{position:sticky;left:0;background:var(--card)}
td.value{background:linear-gradient(90deg,var(--bar) calc(var(--v)*100%),transparent 0)}
td.best{font-weight:700}td.text{text-align:left;white-space:normal;min-width:12rem}
tr.all th,tr.all td{font-weight:700;border-bottom:2px solid var(--line)}
.confusion td,.confusion thead th+th{text-align:center;width:7%;}
.confusion td{min-width:3.6rem;
 background:color-mix(in srgb,var(--wrong,var(--fault)) calc(var(--v)*38%),var(--card))}
.confusion td.right{--wrong:var(--accent)}
dl{display:grid;grid-template-columns:minmax(7rem,auto) 1fr;gap:.35rem 1.2rem;margin:.3rem 0}
dt{color:var(--quiet)}dd{margin:0;min-width:0;overflow-wrap:anywhere}
details{margin:.6rem 0}summary{cursor:pointer;color:var(--accent);padding:.25rem 0}
figure{margin:0}figcaption{color:var(--quiet);font-size:.9rem;margin-bottom:.4rem}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--quiet);font:12px system-ui,sans-serif}
svg .grid-line{stroke:var(--line)}svg .mark{stroke:var(--quiet);stroke-dasharray:4 3}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1rem;list-style:none;margin:.5rem 0 0;padding:0;
 font-size:.88rem}
.key li::before{content:"";display:inline-block;width:.9rem;height:.9rem;border-radius:3px;
 background:var(--k);margin-right:.4rem;vertical-align:-.12rem;border:1px solid var(--line)}
button,.button{font:inherit;color:var(--ink);background:var(--card);border:1px solid var(--line);
 border-radius:8px;padding:.4rem .75rem;cursor:pointer;min-height:2.4rem}
button:hover{border-color:var(--accent)}
button[aria-pressed=true]{background:var(--accent);color:var(--on-accent);border-color:var(--accent)}
.choices{display:flex;flex-wrap:wrap;gap:.4rem;margin:.6rem 0}
.controls{position:sticky;top:3.05rem;z-index:4;background:var(--card);border:1px solid var(--line);
 border-radius:12px;padding:.6rem 1rem;margin:.6rem 0}
.slider{display:flex;flex-wrap:wrap;align-items:center;gap:.2rem .9rem}
.slider label{font-weight:600}.slider output{min-width:8rem;color:var(--accent);font-weight:600}
input[type=range]{flex:1 1 12rem;min-width:0;accent-color:var(--accent);height:2rem;margin:0}
.check{display:inline-flex;gap:.4rem;align-items:center}
.check input{width:1.15rem;height:1.15rem;accent-color:var(--accent)}
.gallery{display:grid;gap:.7rem;grid-template-columns:repeat(auto-fill,minmax(min(46%,9.5rem),1fr));
 list-style:none;margin:.8rem 0;padding:0}
.gallery li{min-width:0}.gallery li[hidden]{display:none}
.gallery button{display:block;width:100%;padding:0;overflow:hidden;text-align:left;height:100%}
.gallery .text{display:block;padding:.35rem .55rem .5rem;font-size:.82rem;line-height:1.35}
.gallery .text b{display:block;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.picture{display:grid;background:#8080801f;place-items:center;overflow:hidden}
.gallery .picture{aspect-ratio:4/3}
.picture>img{grid-area:1/1;position:relative;width:100%;height:100%;object-fit:contain;min-width:0;min-height:0}
.picture>img.faded{filter:saturate(.45)}
.picture>img.sharp{image-rendering:pixelated}
dialog{border:1px solid var(--line);border-radius:14px;background:var(--card);color:var(--ink);
 width:min(62rem,96vw);max-height:94vh;padding:1rem 1.2rem;overflow:auto}
dialog::backdrop{background:#000a}
dialog .picture{max-height:52vh;margin:.5rem 0}
dialog .picture>img{max-height:52vh;width:100%}
.dialog-head{display:flex;gap:.5rem;align-items:center}.dialog-head h3{flex:1;margin:0;min-width:0}
.finding{border-left:5px solid var(--warning)}.finding.fault{border-left-color:var(--fault)}
.tag{display:inline-block;border-radius:6px;padding:.05rem .5rem;font-size:.85rem;font-weight:600;
 background:var(--warning-wash);color:var(--warning)}
.tag.fault{background:var(--fault-wash);color:var(--fault)}
.none{border-style:dashed;color:var(--quiet)}
.end{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr))}
.end>section{background:var(--card);border:1px solid var(--line);border-top:4px solid var(--accent);
 border-radius:12px;padding:.4rem 1.2rem 1rem}
.end h3{margin-top:.8rem}.end ul,.end ol{padding-left:1.2rem;margin:.4rem 0}.end li{margin:.4rem 0}
.thumbs{display:flex;flex-wrap:wrap;gap:.5rem;margin:.5rem 0}
.thumbs figure{font-size:.78rem;max-width:9rem}
img{max-width:100%}img.drawn{background:#fff;border-radius:10px}
footer{margin-top:3rem;padding-bottom:2rem;color:var(--quiet);font-size:.88rem}
@media (max-width:30rem){body{font-size:15px}main,.bar>div,footer{padding:0 .9rem}
 .steps li{flex-basis:44%}.controls{padding:.5rem .7rem}dl{grid-template-columns:1fr;gap:0}
 dd{margin-bottom:.5rem}th,td{padding:.4rem .55rem}}
@media print{.bar,.controls,.choices{display:none}body{background:#fff}}
"""
)
"""CSS of every page; pages set `--v`, a share in [0, 1], of what is drawn as one."""
