# The MLflow server: mlflow server, whose options the chart sets. Context: the root of the repository.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

FROM ${PYTHON_IMAGE} AS build
# Path in this stage of the certificates of a private authority.
ARG SSL_CERT_FILE
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
COPY tools/uv-requirements.txt /opt/
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --require-hashes --requirement /opt/uv-requirements.txt
WORKDIR /src
COPY pyproject.toml uv.lock ./
# MLflow requires these packages and their dependencies for model flavors and gunicorn. A server with uvicorn imports
# none of them.
RUN /opt/uv/bin/uv sync --frozen --only-group mlflow-server \
    --no-install-package gunicorn --no-install-package pyarrow --no-install-package skops \
    --no-install-package scipy --no-install-package scikit-learn --no-install-package joblib \
    --no-install-package matplotlib --no-install-package contourpy --no-install-package fonttools \
    --no-install-package kiwisolver --no-install-package pillow
# The tests and headers of packages are not needed. Bytecode is compiled now because the root is read-only later. It
# contains no timestamps, so that each build of a commit is identical.
RUN find /opt/venv/lib -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
    && find /opt/venv/lib -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' \) -delete \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib
COPY mlflow_server /opt/mlflow/mlflow_server
# Readable by every user: COPY keeps the modes of a checkout with a strict umask.
RUN find /opt/mlflow -name __pycache__ -prune -exec rm -rf {} + \
    && chmod -R a+rX /opt/mlflow \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/mlflow

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG GIT_COMMIT=""
LABEL org.opencontainers.image.title="model-service-mlflow" \
      org.opencontainers.image.description="MLflow tracking server and model registry" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
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
