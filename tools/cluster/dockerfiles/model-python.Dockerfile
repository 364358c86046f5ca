# Stands in for python:3.13-slim on a cluster that reaches no registry: the container of a model's own Python.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie
FROM ${PYTHON_IMAGE}
