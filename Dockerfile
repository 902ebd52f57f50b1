# docker build -t postrider .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY docs/examples docs/examples
COPY tests/conformance/echo.rs tests/conformance/echo.rs
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin postrider && cp target/release/postrider /postrider

FROM debian:bookworm-slim
COPY --from=build /postrider /usr/local/bin/postrider
# A user without a name, home or shell. Nothing is ever written: run it read-only.
USER 10001:10001
ENV POSTRIDER_LISTEN=0.0.0.0:8080
EXPOSE 8080
# SIGTERM drains it; give it longer than drain_deadline_ms before it is killed.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["postrider", "health"]
ENTRYPOINT ["postrider"]
CMD ["serve"]
