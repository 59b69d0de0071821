"""Maps to fuse with data/cams, by other classifiers, methods or settings; without any, nothing."""

from wsss.artifacts import Manifest, Paths, drop_others, has_key, write_json, write_key
from wsss.config.params import Params
from wsss.stages._base import execute
from wsss.stages.generate_cams import cams_key, write_cams
from wsss.tracking import Tracker


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read classifiers and images; write data/further_cams/<source>/<name>.npz.

    A source whose settings, classifier and code are as they were is kept.
    """
    manifest = Manifest.read(paths.splits)
    drop_others(paths.further_cams, params.further_cams)
    for source, settings in params.further_cams.items():
        teacher = settings.classifier
        classifier = paths.teachers / teacher if teacher else paths.classifier
        out = paths.further_cams / source
        key = cams_key(settings, classifier, paths)
        if not has_key(out, key):
            rate = write_cams(settings, classifier, out, manifest, params.machine, paths)
            write_key(out, key)
            if rate:
                tracker.metrics({f"{source}_images_per_second": rate})
    report = {"num_sources": len(params.further_cams), "num_images": len(manifest.all_samples())}
    write_json(paths.report("generate_further_cams"), report)


if __name__ == "__main__":
    execute(
        "generate_further_cams",
        run,
        upstream=("data/images", "data/splits", "models/classifier", "models/teachers"),
    )
