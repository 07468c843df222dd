#!/bin/sh
# A directory with Python 3.11, NumPy, ONNX Runtime and OpenVINO for aarch64, for qemu-aarch64 on Debian 12:
#     sh benchmarks/arm_sysroot.sh SYSROOT
# Packages are downloaded with a configuration of apt of its own; the system's stays as it is.
set -eu
ROOT=$(mkdir -p "$1" && cd "$1" && pwd)
APT=$ROOT/apt
mkdir -p "$APT/lists/partial" "$APT/cache/archives/partial" "$ROOT/debs" "$ROOT/proc"
: > "$APT/status"
cat > "$APT/conf" <<END
APT::Architecture "amd64";
APT::Architectures {"amd64";"arm64";};
Dir::State "$APT";
Dir::State::status "$APT/status";
Dir::Cache "$APT/cache";
END
export APT_CONFIG="$APT/conf"
apt-get -q update
cd "$ROOT/debs"
for package in python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libstdc++6 \
    libgcc-s1 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libuuid1; do
    apt-get -q download "$package:arm64"
done
for file in *.deb; do dpkg -x "$file" "$ROOT"; done
VERSIONS=$(python -c "
from importlib.metadata import version
print(*(f'{name}=={version(name)}' for name in ('numpy', 'onnxruntime', 'openvino')))")
# shellcheck disable=SC2086  # two requirements
python -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 -d "$ROOT/debs" \
    --platform manylinux_2_35_aarch64 --platform manylinux_2_28_aarch64 \
    --platform manylinux2014_aarch64 $VERSIONS
for wheel in *.whl; do python -m zipfile -e "$wheel" "$ROOT/wheels"; done
# qemu shows the x86 file, in which ONNX Runtime finds no ARM core and crashes; this one is shown
# in its place.
for core in 0 1; do
    printf 'processor\t: %s\nFeatures\t: fp asimd aes crc32 atomics fphp asimdhp asimdrdm asimddp\n' $core
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n'
    printf 'CPU revision\t: 1\n\n'
done > "$ROOT/proc/cpuinfo"
