"""The native tests under sanitizers, for every way the kernels can be compiled: `make sanitize`.

| build | checks | kernels |
|---|---|---|
| dispatch | addresses, undefined behaviour | AVX2 where the processor has it; the baseline too |
| baseline | addresses, undefined behaviour | the baseline alone, as on ARM |
| scalar | addresses, undefined behaviour | plain loops, as compilers without vector types get |
| thread | data races | as dispatch; test_threads alone |

Left out are leaks (the interpreter's own hide ours), tests of the filter in PyTorch, which run no
code of ours, and, with `thread`, tests that fork a process with threads, which its runtime refuses.
"""

import itertools
import shutil
import sys

import numpy as np
from builds import BUILD, INTERPRETER, check_import, environment, install, run, runtime

CHECKS = "address,undefined,float-cast-overflow"
ALONE = {"WSSS_DISPATCH": "OFF"}
VARIANTS = {
    "dispatch": {"WSSS_SANITIZE": CHECKS},
    "baseline": {"WSSS_SANITIZE": CHECKS, **ALONE},
    "scalar": {"WSSS_SANITIZE": CHECKS, **ALONE, "WSSS_SCALAR_LANES": "ON"},
    "thread": {"WSSS_SANITIZE": "thread"},
}

# Python's own frees of thread-local storage, which its runtime does not see through.
SUPPRESSIONS = "race:_dl_deallocate_tls\nrace:libpython\n"

# Fused and separate multiplications round differently, and nothing else may differ.
TOLERANCE = 1e-5

ANSWERS = """
import sys
import numpy as np
from wsss.densecrf import DenseCRF, dense_crf
rng = np.random.default_rng(0)
answers = []
for labels in (1, 2, 5, 9, 17, 21, 33, 40):
    image = rng.integers(0, 256, (23, 31, 3), dtype=np.uint8)
    probs = rng.dirichlet(np.ones(labels), (23, 31)).transpose(2, 0, 1).astype(np.float32)
    answers.append(dense_crf(image, probs, n_iters=4))
    crf = DenseCRF(200, labels)
    crf.setUnaryEnergy(rng.uniform(0, 3, (labels, 200)))
    crf.addPairwiseEnergy(rng.normal(size=(4, 200)), rng.normal(size=(labels, labels)))
    answers.append(crf.inference(3))
np.save(sys.argv[1], np.concatenate([a.ravel() for a in answers]))
"""


def main(names: list[str]) -> None:
    """Build and test the variants of these names, or all.

    Raises:
        SystemExit: a test fails, or two builds disagree.
    """
    answers: dict[str, np.ndarray] = {}
    for name in names or VARIANTS:
        print(f"---- {name}", flush=True)
        site = install(f"sanitize_{name}", VARIANTS[name])
        launcher: list[str] = []
        if name == "thread":
            suppressions = BUILD / "sanitize_thread" / "suppressions.txt"
            suppressions.write_text(SUPPRESSIONS, encoding="utf-8")
            options = f"halt_on_error=1:suppressions={suppressions}"
            variables = environment(site, [runtime("libtsan.so")], TSAN_OPTIONS=options)
            selected = ["tests/densecrf/test_threads.py", "-k", "not forked"]
            if shutil.which("setarch"):  # its shadow memory wants a fixed layout
                launcher = ["setarch", "--addr-no-randomize"]
        else:
            variables = environment(
                site,
                # The C++ library beside it, or its interceptors find no __cxa_throw.
                [runtime("libasan.so"), runtime("libstdc++.so")],
                ASAN_OPTIONS="detect_leaks=0",
                UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
            )
            selected = ["tests/densecrf", "--ignore=tests/densecrf/test_torch_lattice.py"]
        print(f"instruction sets: {check_import(site, variables)}", flush=True)
        pytest = [INTERPRETER, "-m", "pytest", "-p", "no:cacheprovider", "-s", "--timeout=300"]
        run([*launcher, *pytest, *selected], variables)
        if name != "thread":
            file = BUILD / f"sanitize_{name}" / "answers.npy"
            run([INTERPRETER, "-c", ANSWERS, str(file)], variables)
            answers[name] = np.load(file)
    for (name, found), (other_name, other) in itertools.combinations(answers.items(), 2):
        off = float(np.abs(found - other).max())
        print(f"---- {name} and {other_name} differ by at most {off:.1e}")
        if not off <= TOLERANCE:
            raise SystemExit(f"that is more than {TOLERANCE}")


if __name__ == "__main__":
    main(sys.argv[1:])
