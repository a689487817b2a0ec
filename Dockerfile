# One image, two entry points: `lowtide` (movers) and `lowtide-operator`.
#
# Built by Docker, BuildKit or buildah:  docker build -t lowtide .

FROM docker.io/library/rust:1.95-slim-bookworm AS dependencies
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements requirements
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
 && python3 -m venv --without-pip /opt/lowtide \
 && /opt/build/bin/pip --python /opt/lowtide/bin/python3 install --no-cache-dir --require-hashes -r requirements/runtime.txt

FROM dependencies AS build
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY engine engine
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/lowtide/bin/python3 install --no-cache-dir --no-deps --no-compile --root /staged /wheels/*.whl \
 && python3 -m compileall -q -s /staged -p / /staged

FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*
# Two layers: what Lowtide depends on changes seldom, and is then neither built, pushed nor pulled again.
COPY --from=dependencies /opt/lowtide /opt/lowtide
COPY --from=build /staged/opt/lowtide /opt/lowtide
ENV PATH=/opt/lowtide/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TZ=UTC
USER 65532:65532
CMD ["lowtide-operator"]
