# Runs the pipeline: docker build -f docker/worker.Dockerfile .
# torch's wheels carry their own CUDA libraries; any Debian or Ubuntu with Python 3.11-3.13 serves
# as BASE, on a machine without a GPU for instance docker.io/library/debian:bookworm-slim.
ARG BASE=docker.io/nvidia/cuda:13.0.1-runtime-ubuntu24.04

# hadolint ignore=DL3006
FROM ${BASE} AS python
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/wsss
ENV PATH=/opt/wsss/bin:$PATH PYTHONUNBUFFERED=1

FROM python AS native
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        g++ python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY csrc csrc
COPY recipes recipes
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python AS dependencies
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt \
        'psycopg[binary]>=3.2,<4' 'dvc-s3>=3.2,<4'

FROM dependencies AS worker
RUN --mount=type=bind,from=native,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl \
    && useradd --uid 10001 --create-home wsss
WORKDIR /workspace
# what the pipeline reads, and the folders that volumes are mounted on; see .dockerignore
COPY --chown=10001:10001 . .
RUN rm -rf docker && mkdir -p .dvc/cache data models reports && chown -R 10001:10001 /workspace
USER 10001:10001
ENV MLFLOW_DISABLE_TELEMETRY=true DVC_NO_ANALYTICS=true
# there is no git in here, so DVC must not look for it
RUN { test -f .dvc/config || dvc init --quiet --no-scm --force; } \
    && dvc config --local core.no_scm true \
    && wsss --help > /dev/null
CMD ["dvc", "repro"]
