# Training, promotion and batch scoring: python -m training, run as a Job. Context: the root of the repository.
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
RUN /opt/uv/bin/uv sync --frozen --no-default-groups --group training
# The tests and headers of packages are not needed. Bytecode is compiled now because the root is read-only later. It
# contains no timestamps, so that each build of a commit is identical.
RUN find /opt/venv/lib -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
    && find /opt/venv/lib -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' \) -delete \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib
COPY app /opt/model-service/app
COPY training /opt/model-service/training
COPY uv.lock /opt/model-service/
# Readable by every user: COPY keeps the modes of a checkout with a strict umask.
RUN find /opt/model-service -name __pycache__ -prune -exec rm -rf {} + \
    && chmod -R a+rX /opt/model-service \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/model-service

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG GIT_COMMIT=""
LABEL org.opencontainers.image.title="model-service-training" \
      org.opencontainers.image.description="Train an XGBoost model and register it in MLflow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
# GIT_COMMIT becomes a tag of the run. USER is the name that MLflow records, because the user ID below has none.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_WAIT_POLICY=PASSIVE \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet \
    GIT_COMMIT=${GIT_COMMIT} \
    HOME=/tmp \
    USER=training
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/model-service /opt/model-service
WORKDIR /opt/model-service
USER 10001:10001
# A batch program has no port to probe: its exit code is its health.
HEALTHCHECK NONE
ENTRYPOINT ["python3", "-m", "training"]
