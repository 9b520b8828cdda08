# An image of rollcall alone: it needs a database (DATABASE_URL), for there is no PostgreSQL in it.
# docker-compose.yml runs both.

FROM rust:1.95-slim-bookworm AS dependencies
WORKDIR /build
# Queries are checked against .sqlx: a build needs no database.
ENV SQLX_OFFLINE=true CARGO_INCREMENTAL=0
# The manifests with an empty program: this layer, the long one, is made again only when a dependency changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --locked --release \
    && rm -r src target/release/rollcall target/release/.fingerprint/rollcall-* target/release/deps/*rollcall*

FROM dependencies AS build
COPY .sqlx .sqlx
COPY migrations migrations
COPY src src
RUN cargo build --locked --release

FROM debian:bookworm-slim
# The certificates of the public authorities, for health checks and databases that are reached by TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# The number is fixed, so that files can be given to this user from outside.
RUN groupadd --gid 10001 rollcall \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/rollcall --shell /usr/sbin/nologin rollcall \
    && install -d -o rollcall -g rollcall -m 0700 /var/lib/rollcall
COPY --from=build /build/target/release/rollcall /usr/local/bin/rollcall
COPY LICENSE /usr/share/doc/rollcall/LICENSE
USER 10001:10001
WORKDIR /var/lib/rollcall
# Beyond loopback, so it does not start until ROLLCALL_AUTH is given too: who may reach it is not the image's decision.
ENV ROLLCALL_LISTEN=0.0.0.0:8081 ROLLCALL_DATA_DIR=/var/lib/rollcall
EXPOSE 8081
# An orderly stop may take 30 seconds: docker stop -t 40.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["rollcall", "health"]
CMD ["rollcall", "serve"]
