# Two stages: the programs are built where the toolchain is, and run in a small image without it, as nobody in particular.
# BUILD_IMAGE and RUN_IMAGE can be images of one's own: a Rust toolchain with a C compiler and make, and any glibc as new.
ARG BUILD_IMAGE=rust:1-bookworm
ARG RUN_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bins

FROM ${RUN_IMAGE}
COPY --from=build /src/target/release/block-chain-server /src/target/release/block-chain-worker /usr/local/bin/
COPY scripts/healthy /usr/local/bin/healthy
RUN mkdir -p /data && chown 65532:65532 /data
USER 65532:65532
VOLUME /data
ENV XDG_DATA_HOME=/data
CMD ["block-chain-server", "--bind", "0.0.0.0:18000", "--data-dir", "/data"]
