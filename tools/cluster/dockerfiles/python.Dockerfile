# The base image where no registry can be reached: Debian's own Python, made by mmdebstrap.
FROM scratch
ADD python.tar /
