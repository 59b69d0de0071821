# Serves a segmenter: docker build -f docker/serve.Dockerfile .
# See docs/serve.md. torch's wheels carry their own CUDA libraries: with a GPU, run it with --gpus.
ARG BASE=docker.io/library/debian:bookworm-slim

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
        'fastapi>=0.115,<1' 'uvicorn>=0.34,<1' 'python-multipart>=0.0.20,<1' \
        'onnxruntime>=1.22,<2'

FROM dependencies AS serve
RUN --mount=type=bind,from=native,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl \
    && useradd --uid 10003 --create-home wsss \
    && mkdir /model
USER 10003:10003
WORKDIR /home/wsss
ENV MLFLOW_DISABLE_TELEMETRY=true
EXPOSE 8080
HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health')"]
CMD ["wsss", "serve", "/model", "--host", "0.0.0.0", "--token-file", "/run/secrets/token"]
