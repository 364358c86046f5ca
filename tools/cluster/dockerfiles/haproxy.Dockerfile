# Debian's HAProxy, which splits requests by weight where no gateway runs.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie
FROM ${PYTHON_IMAGE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends haproxy \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
USER 65534:65534
ENTRYPOINT ["/usr/sbin/haproxy", "-db", "-f"]
