# One image for every program; what runs is the command (docker-compose.yml has them all).
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.lock /tmp/requirements.lock
RUN /opt/venv/bin/pip install --require-hashes --no-deps -r /tmp/requirements.lock

FROM python:3.12-slim-bookworm
# A fixed number, so that volumes and Kubernetes' runAsUser can name it.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/kcloud kcloud
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/kcloud
COPY api api
COPY workers workers
COPY shared shared
COPY infrastructure infrastructure
COPY simulator simulator
COPY deployment deployment
COPY heat heat
RUN python -m compileall -q /opt/kcloud
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/kcloud PYTHONUNBUFFERED=1 LOG_FORMAT=json API_HOST=0.0.0.0 STATE_DIR=/var/lib/kcloud
USER kcloud
EXPOSE 8006
CMD ["gunicorn", "-c", "api/gunicorn.py", "api.wsgi:app"]
