FROM scratch
COPY prometheus-config-reloader /prometheus-config-reloader
USER 65534:65534
ENTRYPOINT ["/prometheus-config-reloader"]
