# Debian's Alertmanager.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie
FROM ${PYTHON_IMAGE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends prometheus-alertmanager \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
USER 65534:65534
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]
