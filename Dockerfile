# One file for every service: docker build --build-arg SERVICE=registry .
# (SERVICE is the folder under services/; PACKAGE is its Python package where the two differ.)
FROM python:3.11-slim AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUAL_ENV=/app/.venv
WORKDIR /app
COPY bootstrap.lock requirements.lock ./
RUN python -m venv "$VIRTUAL_ENV" \
 && python -m pip install --no-cache-dir --require-hashes -r bootstrap.lock \
 && uv pip sync --no-cache --require-hashes requirements.lock
COPY libs libs
ARG SERVICE
COPY services/${SERVICE} services/${SERVICE}
RUN uv pip install --no-cache --no-deps --no-build-isolation --offline libs/* "services/${SERVICE}"
ARG PACKAGE=${SERVICE}
RUN printf '#!%s/bin/python\nimport runpy\nrunpy.run_module("mainstem.%s.app", run_name="__main__")\n' \
      "$VIRTUAL_ENV" "$PACKAGE" > "$VIRTUAL_ENV/bin/service" \
 && chmod 755 "$VIRTUAL_ENV/bin/service"

FROM python:3.11-slim AS runtime
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mainstem \
 && install --directory --owner=mainstem --mode=0750 /var/lib/mainstem /var/lib/log /var/lib/witness
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 MAINSTEM_HTTP_HOST=0.0.0.0 MAINSTEM_ENVIRONMENT=container
USER 10001
WORKDIR /var/lib/mainstem
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --start-interval=1s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as http; http.urlopen(f\"http://127.0.0.1:{os.environ['MAINSTEM_HTTP_PORT']}/readyz\", timeout=2)"]
CMD ["service"]
