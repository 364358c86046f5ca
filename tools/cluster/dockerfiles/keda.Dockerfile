FROM scratch
COPY operator /keda
COPY adapter /keda-adapter
USER 65534:65534
