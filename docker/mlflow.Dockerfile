# The tracking server, and the dashboard of searches: docker build -f docker/mlflow.Dockerfile .
ARG BASE=docker.io/library/debian:bookworm-slim

# hadolint ignore=DL3006
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/mlflow
ENV PATH=/opt/mlflow/bin:$PATH PYTHONUNBUFFERED=1
# the versions that the worker has, so that server and client agree
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -c /tmp/requirements.txt \
        'mlflow[auth]>=3.10,<4' 'psycopg[binary]>=3.2,<4' 'boto3>=1.36,<2' \
        'optuna>=5.0,<6' 'optuna-dashboard>=0.20,<1' \
    && useradd --uid 10002 --create-home mlflow
COPY docker/mlflow_service.py /opt/mlflow_service.py
USER 10002:10002
WORKDIR /home/mlflow
ENV MLFLOW_DISABLE_TELEMETRY=true
EXPOSE 5000
CMD ["python", "/opt/mlflow_service.py", "serve"]
