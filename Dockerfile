# syntax=docker/dockerfile:1
# One image for everything that runs: webserver, daemon, code server, runs, `mm serve`, SageMaker.
#
#   make image-pin                                   the digest of the base, once and at updates
#   make image VARIANT=cpu TORCH_INDEX=…             or VARIANT=gpu; see docs/deploy-one-machine.md
#
# Without PYTHON_DIGEST nothing is built: a tag alone may be another base tomorrow.
ARG PYTHON_DIGEST

FROM python:3.11-slim-bookworm@${PYTHON_DIGEST} AS source
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY deploy/image ./deploy/image
COPY mm_assets ./mm_assets
COPY dagster_project ./dagster_project

FROM source AS install-cpu
# The index of torch's builds without CUDA; PyPI has none for x86.
ARG TORCH_INDEX=""
RUN ["python", "deploy/image/install.py", "cpu", "/opt/mm"]

FROM source AS install-gpu
RUN ["python", "deploy/image/install.py", "gpu", "/opt/mm"]

# What both variants run on: no compiler, no package of ours yet, a user without rights.
FROM python:3.11-slim-bookworm@${PYTHON_DIGEST} AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 mm \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin mm \
    && install -d -o 10001 -g 10001 /data \
    && install -d /project
# Only /data and /tmp are written: the rest may be read-only.
ENV PATH=/opt/mm/bin:$PATH \
    PYTHONPATH=/project \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONWARNINGS=ignore \
    HOME=/tmp \
    TMPDIR=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    HF_HOME=/data/cache/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MM_ROOT=/project \
    MM_DATA=/data \
    DAGSTER_HOME=/data/dagster \
    MM_SERVE_HOST=0.0.0.0
WORKDIR /project
VOLUME ["/data", "/tmp"]
EXPOSE 3000 4000 8080
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=25s --start-period=120s --retries=3 CMD ["mm-container", "health"]
ENTRYPOINT ["mm-container"]
CMD ["mm", "doctor"]

FROM base AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=install-gpu /opt/mm /opt/mm

FROM base AS cpu
COPY --from=install-cpu /opt/mm /opt/mm
