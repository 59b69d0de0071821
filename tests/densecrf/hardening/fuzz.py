"""Coverage-guided fuzzing of the Python face and of the native core below it: `make fuzz`.

libFuzzer, by way of atheris, makes up byte strings, and `calls` takes each for a sequence of calls.
Our Python and our C++ both report what an input reaches, and C++ runs under the address and
undefined behaviour sanitizers. What breaks a rule is kept and the run goes on; a crash ends it.

    fuzz.py --seconds 600
    fuzz.py --replay build/hardening/fuzz/findings/0123abcd
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from builds import BUILD, INTERPRETER, ROOT, check_import, environment, install, pip, run, runtime

ATHERIS = "atheris==3.0.0"
# Clang's "undefined" would ask for libraries that atheris does not bring.
CHECKS = [
    *("fuzzer-no-link", "address", "alignment", "bool", "bounds", "enum", "float-cast-overflow"),
    *("integer-divide-by-zero", "null", "pointer-overflow", "return", "shift"),
    *("signed-integer-overflow", "unreachable"),
]
BROKEN = 3  # the status of a run that found something; sanitizers exit with 1 or a signal
HOME = BUILD / "fuzz"
LOG = HOME.with_name("fuzz.log")
CORPUS = HOME.with_name("fuzz_corpus")
FINDINGS = HOME.with_name("fuzz_findings")


def main() -> None:
    """Build, then run inputs in a child process that has the sanitizers' runtime.

    Raises:
        SystemExit: a rule was broken, or the child crashed.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--replay", type=Path, help="one input, to see what it does")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options)
        return
    site = install("fuzz", {"WSSS_SANITIZE": ",".join(CHECKS)}, clang())
    run([*pip(), "install", "--no-deps", "--upgrade", f"--target={HOME / 'atheris'}", ATHERIS])
    symbolizer = next((p for p in map(shutil.which, versions("llvm-symbolizer")) if p), "")
    variables = environment(
        site,
        [HOME / "atheris" / "asan_with_fuzzer.so", runtime("libstdc++.so")],
        [HOME / "atheris"],
        ASAN_OPTIONS="detect_leaks=0",
        UBSAN_OPTIONS="print_stacktrace=1",
        **({"ASAN_SYMBOLIZER_PATH": symbolizer} if symbolizer else {}),
    )
    print(f"instruction sets: {check_import(site, variables)}", flush=True)
    command = [INTERPRETER, __file__, "--inside", f"--seconds={options.seconds}"]
    if options.replay:
        run([*command, f"--replay={options.replay.resolve()}"], variables)
        return
    make_seeds()
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with LOG.open("w", encoding="utf-8") as log:
        status = subprocess.run(
            command, env=variables, stderr=log, cwd=FINDINGS, check=False
        ).returncode
    text = LOG.read_text(encoding="utf-8", errors="replace")
    reached = re.findall(r"cov: (\d+)", text)
    counters = re.findall(r"\((\d+) inline 8-bit counters\)", text)
    print(f"reached {reached[-1] if reached else 0} edges; C++ has {', '.join(counters)}")
    if status not in (0, BROKEN):
        errors = re.search(r"^.*(runtime error|ERROR: |Uncaught Python exception)", text, re.M)
        print(text[errors.start() :][:6000] if errors else text[-6000:])
        print(f"a crash, status {status}; its input is in {FINDINGS}, all of this in {LOG}")
    raise SystemExit(status)


def inside(options: argparse.Namespace) -> None:
    """The child: run libFuzzer until the time is over, or replay one input."""
    import atheris

    with atheris.instrument_imports(include=["wsss.densecrf"]):
        from calls import Finding, run_input

    if options.replay:
        counts: Counter[str] = Counter()
        run_input(options.replay.read_bytes(), counts)
        print("nothing wrong:", dict(counts))
        return

    state = Summary(options.seconds)

    def one_input(data: bytes) -> None:
        state.inputs += 1
        try:
            run_input(data, state.counts)
        except Finding as finding:
            state.keep(finding, data)
        except Exception as error:  # of `calls` itself: no reason to stop
            error.add_note("calls.py has a bug of its own")
            state.keep(error, data)
        if state.over():
            state.report()
            sys.stdout.flush()
            os._exit(BROKEN if state.findings else 0)  # libFuzzer takes any return for a crash

    arguments = ["-max_len=600", "-len_control=0", "-timeout=60", "-rss_limit_mb=8000"]
    atheris.Setup([__file__, *arguments, str(CORPUS)], one_input)
    atheris.Fuzz()


class Summary:
    """What a run has tried and found."""

    def __init__(self, seconds: float) -> None:
        self.begun = time.monotonic()
        self.seconds = seconds
        self.inputs = 0
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, str] = {}

    def over(self) -> bool:
        return time.monotonic() - self.begun > self.seconds

    def keep(self, finding: Exception, data: bytes) -> None:
        """Keep the first input of each kind of finding."""
        text = str(finding) if type(finding).__name__ == "Finding" else repr(finding)
        kind = re.sub(r"[^a-zA-Z_:]+", " ", text)[:100]
        if kind in self.findings:
            return
        name = hashlib.sha256(data).hexdigest()[:12]
        (FINDINGS / name).write_bytes(data)
        self.findings[kind] = f"{text[:300]}\n    {FINDINGS.relative_to(ROOT) / name}"
        print(f"FOUND {self.findings[kind]}", flush=True)
        traceback.print_exception(finding)

    def report(self) -> None:
        """Print the numbers."""
        taken = time.monotonic() - self.begun
        calls = sum(n for name, n in self.counts.items() if not name.endswith("threaded"))
        print(f"{self.inputs} inputs, {calls} calls, in {taken:.0f} s")
        names = sorted({name.rsplit(" ", 1)[0] for name in self.counts})
        for name in names:
            done, refused = (self.counts[f"{name} {outcome}"] for outcome in ("done", "refused"))
            print(f"  {name:28} {done:8} done {refused:8} refused")
        for name in ("dense_crf", "inference"):
            print(f"  {name:28} {self.counts[f'{name} threaded']:8} in several threads at once")
        print(f"{len(self.findings)} kinds of broken rule")
        for finding in self.findings.values():
            print(f"  {finding}")


def make_seeds() -> None:
    """Inputs to begin with, if there are none."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    if any(CORPUS.iterdir()):
        return
    source = random.Random(0)
    for i in range(64):
        (CORPUS / f"seed{i}").write_bytes(source.randbytes(20 + 8 * i))


def clang() -> str:
    """Clang's C++ compiler.

    Raises:
        SystemExit: there is none.
    """
    for name in versions("clang++"):
        if shutil.which(name):
            return name
    raise SystemExit("fuzzing needs Clang for libFuzzer's view of C++: apt-get install clang-19")


def versions(name: str) -> list[str]:
    """Names a distribution gives a program of LLVM's, newest first."""
    return [*(f"{name}-{n}" for n in range(22, 13, -1)), name]


if __name__ == "__main__":
    main()
