# The model service: python -m app. Context: the root of the repository.
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
# Without dependency groups and without scipy, which only XGBoost's Python package needs: the image uses its C library
# (app.model.booster).
RUN /opt/uv/bin/uv sync --frozen --no-default-groups --no-install-package scipy
# The tests and headers of packages are not needed. Bytecode is compiled now because the root is read-only later. It
# contains no timestamps, so that each build of a commit is identical.
RUN find /opt/venv/lib -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
    && find /opt/venv/lib -type f \( -name redoc.standalone.js -o -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.cpp' -o -name '*.h' \) -delete \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib
COPY app /app/app
# Readable by every user: COPY keeps the modes of a checkout with a strict umask.
RUN find /app -name __pycache__ -prune -exec rm -rf {} + \
    && chmod -R a+rX /app \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app \
    && mkdir -p /var/cache/model-service

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG GIT_COMMIT=""
LABEL org.opencontainers.image.title="model-service" \
      org.opencontainers.image.description="Serve one MLflow model over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
# One OpenMP thread, which sleeps while it waits: spinning threads use up a small CPU quota. The _created series would
# double the number of counters.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 \
    OMP_WAIT_POLICY=PASSIVE \
    PROMETHEUS_DISABLE_CREATED_SERIES=True \
    GIT_COMMIT=${GIT_COMMIT} \
    HOME=/tmp
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /var/cache/model-service /var/cache/model-service
WORKDIR /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python3", "-m", "app.tools.check", "ready", "http://127.0.0.1:8000"]
ENTRYPOINT ["python3", "-m", "app"]
