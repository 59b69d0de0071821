"""What has been asked and done, in the text form of Prometheus."""

import os
import threading
from collections import Counter
from pathlib import Path

__all__ = ["Metrics"]

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
"""Seconds of a prediction, up to and including which it is counted."""


class Metrics:
    """Counts since the start; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._below: Counter[float] = Counter()
        self._predictions = self._pixels = self._waiting = 0
        self._seconds = 0.0

    def answered(self, path: str, status: int) -> None:
        """Count a request."""
        with self._lock:
            self._requests[path, status] += 1

    def predicted(self, seconds: float, pixels: int) -> None:
        """Count an image."""
        with self._lock:
            self._predictions += 1
            self._seconds += seconds
            self._pixels += pixels
            self._below.update(bound for bound in BUCKETS if seconds <= bound)

    def text(self, waiting: int) -> str:
        """All counts; `waiting` are the requests that are there now.

        Example:
            >>> metrics = Metrics()
            >>> metrics.predicted(0.5, 100)
            >>> print(metrics.text(0).splitlines()[-3])
            wsss_predicted_pixels_total 100
        """
        with self._lock:
            lines = ["# TYPE wsss_requests_total counter"]
            for (path, status), count in sorted(self._requests.items()):
                lines.append(f'wsss_requests_total{{path="{path}",status="{status}"}} {count}')
            lines.append("# TYPE wsss_prediction_seconds histogram")
            lines += [
                f'wsss_prediction_seconds_bucket{{le="{bound:g}"}} {self._below[bound]}'
                for bound in BUCKETS
            ]
            lines += [
                f'wsss_prediction_seconds_bucket{{le="+Inf"}} {self._predictions}',
                f"wsss_prediction_seconds_sum {self._seconds:.6f}",
                f"wsss_prediction_seconds_count {self._predictions}",
                "# TYPE wsss_requests_in_progress gauge",
                f"wsss_requests_in_progress {waiting}",
                "# TYPE wsss_predicted_pixels_total counter",
                f"wsss_predicted_pixels_total {self._pixels}",
                "# TYPE process_resident_memory_bytes gauge",
                f"process_resident_memory_bytes {_resident()}",
            ]
        return "\n".join(lines) + "\n"


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if file.exists() else 0
