# Debian's PostgreSQL: the database of the tests' production profile.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie
FROM ${PYTHON_IMAGE}
# No certificate is made, because the folder may be read-only in a build; the database that the package makes is
# not for a pod; initdb wants its user to have a name.
RUN dpkg-divert --quiet --rename --add /usr/sbin/make-ssl-cert \
 && ln -s /bin/true /usr/sbin/make-ssl-cert \
 && apt-get update \
 && apt-get install -y --no-install-recommends postgresql \
 && rm -rf /var/lib/postgresql/* /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && ln -s /usr/lib/postgresql/*/bin /opt/postgresql \
 && useradd --uid 10001 --no-create-home database
ENV PATH=/opt/postgresql:${PATH}
USER 10001:10001
