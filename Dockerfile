# dagster_offload with Tesseract for Korean and English. The home is /data, the documents are /library.
# With a Postgres of its own: compose.yaml. Alone: docker run --init --hostname offload -v offload:/data -v ~/Documents:/library:ro -p 127.0.0.1:3000:3000 IMAGE
# The ledger knows workers by the host name, which Docker chooses anew for each container without --hostname.
FROM python:3.13-slim-bookworm AS build
COPY . /src
RUN python -m venv /opt/offload \
 && /opt/offload/bin/pip install --no-cache-dir --constraint /src/constraints.txt /src

FROM python:3.13-slim-bookworm
# The base image decides which version of Tesseract there is.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tesseract-ocr tesseract-ocr-kor \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home offload \
 && install --directory --owner offload --group offload --mode 700 /data \
 && install --directory /library
COPY --from=build /opt/offload /opt/offload
ENV PATH=/opt/offload/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    OFFLOAD_HOME=/data \
    OFFLOAD_LIBRARY=/library
USER 1000:1000
WORKDIR /data
VOLUME /data
EXPOSE 3000
# `up` ends within 15 seconds.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-P", "-m", "dagster_offload.service.ui.health_check"]
ENTRYPOINT ["dagster-offload"]
# Every address of the container, so the UI asks for a token: docker exec CONTAINER dagster-offload status
CMD ["up", "--host", "0.0.0.0", "--port", "3000", "--token"]
