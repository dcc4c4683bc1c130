# syntax=docker/dockerfile:1
# docker build -t llmproxy .
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential cmake pkg-config libssl-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# Dependencies first, against an empty program: this layer lasts until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' >src/main.rs \
 && cargo build --release --locked \
 && rm -rf src

COPY conf conf
COPY src src
# The files of the empty program are newer than the copied ones; cargo goes by time.
RUN find src -name '*.rs' -exec touch {} + && cargo build --release --locked --bin llmproxy

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="llmproxy" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends libssl3 ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 llmproxy \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/llmproxy --shell /usr/sbin/nologin llmproxy \
 && install -d -o 10001 -g 10001 /var/lib/llmproxy /etc/llmproxy
COPY --from=build /src/target/release/llmproxy /usr/local/bin/llmproxy
COPY LICENSE /usr/share/doc/llmproxy/LICENSE

USER 10001:10001
# The default data_dir, ./data, is below it.
WORKDIR /var/lib/llmproxy
VOLUME /var/lib/llmproxy
EXPOSE 8000
ENV HEALTH_PORT=8000
# bash opens the connection itself: no curl in the image. The gateway and `llmproxy sim` both answer /health.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$HEALTH_PORT && printf 'GET /health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r -t 2 line <&3 && [[ $line == *' 200'* ]]"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["llmproxy"]
CMD ["--config", "/etc/llmproxy/llmproxy.yaml"]
