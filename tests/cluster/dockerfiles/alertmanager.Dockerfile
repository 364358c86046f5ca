# Debian's Alertmanager.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends prometheus-alertmanager \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
USER 65534:65534
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]
