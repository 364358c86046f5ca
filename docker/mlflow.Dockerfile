# The MLflow server: mlflow server, with every option left to the chart. Context: the repository's root.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
# Certificates of a private authority, as a path in this stage.
ARG SSL_CERT_FILE
ARG UV_VERSION=0.13.9
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==${UV_VERSION}
WORKDIR /src
COPY pyproject.toml uv.lock ./
# MLflow declares these, with what they bring, for model flavors and gunicorn; a server under uvicorn imports none.
RUN /opt/uv/bin/uv sync --frozen --only-group mlflow-server \
    --no-install-package gunicorn --no-install-package pyarrow --no-install-package skops \
    --no-install-package scipy --no-install-package scikit-learn --no-install-package joblib \
    --no-install-package matplotlib --no-install-package contourpy --no-install-package fonttools \
    --no-install-package kiwisolver --no-install-package pillow
# Packages' own tests and headers are never run here. Bytecode is made now, as the root is read-only later, and knows no
# time of its source, so that each build of a commit makes the same.
RUN find /opt/venv/lib -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
    && find /opt/venv/lib -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' \) -delete \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib
COPY mlflow_server /opt/mlflow/mlflow_server
# Readable by everyone: a checkout made under a strict umask keeps its modes in COPY.
RUN find /opt/mlflow -name __pycache__ -prune -exec rm -rf {} + \
    && chmod -R a+rX /opt/mlflow \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/mlflow

FROM ${PYTHON_IMAGE}
ARG GIT_COMMIT=""
LABEL org.opencontainers.image.title="model-service-mlflow" \
      org.opencontainers.image.description="MLflow tracking server and model registry" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/mlflow \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet \
    GIT_COMMIT=${GIT_COMMIT} \
    HOME=/tmp \
    USER=mlflow
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/mlflow /opt/mlflow
WORKDIR /tmp
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
ENTRYPOINT ["mlflow", "server"]
