#!/usr/bin/env bash
# The Debian package, in a bare system of its own: builds it, installs it there with what it depends on, uses it as a user without
# rights (installation.sh), removes it, and looks for what is left.
#
#   package.sh          needs root, debootstrap and this machine's package sources; ends with 3, and a sentence, where they are not
#
# The bare system stays in build/package/system; a second run begins with a copy of it.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$PWD/build/package system=$PWD/build/package/system used=$PWD/build/package/used
not_here() { echo "package.sh: $*" >&2; exit 3; }
fail() { echo "FAIL: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || not_here "needs root for a bare system"
command -v debootstrap >/dev/null || not_here "debootstrap is missing (launch/setup.sh --dev)"
command -v dpkg-shlibdeps >/dev/null || not_here "dpkg-shlibdeps is missing (launch/setup.sh --dev)"
# shellcheck disable=SC1091
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$suite" ] || not_here "/etc/os-release names no release of Debian or Ubuntu"

# ---- the package ----

mkdir -p "$folder"
cmake --preset release -B "$folder/build" -DCADVLM_CUDA=OFF -DCADVLM_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr >"$folder/configure.log"
cmake --build "$folder/build" --target cadvlm cadvlm-cad cadvlm_pages >"$folder/build.log" || fail "$(tail -n 5 "$folder/build.log")"
rm -f "$folder"/build/*.deb
(cd "$folder/build" && cpack -G DEB -D CPACK_CMAKE_GENERATOR=Ninja >"$folder/cpack.log" 2>&1) || fail "cpack: $(tail -n 5 "$folder/cpack.log")"
deb=$(find "$folder/build" -maxdepth 1 -name '*.deb')
[ -f "$deb" ] || fail "no package was made"
depends=$(dpkg-deb -f "$deb" Depends)
for library in libopenmpi libhdf5 libyaml libocct libdnnl libcurl; do
    case $depends in *$library*) ;; *) fail "the package does not depend on $library: $depends" ;; esac
done

# ---- the bare system ----

mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | head -n 1)
if [ ! -e "$system/complete" ]; then
    rm -rf "$system"
    debootstrap --variant=minbase "$suite" "$system" ${mirror:+"$mirror"} >"$folder/debootstrap.log" 2>&1 ||
        not_here "no bare system: $(tail -n 2 "$folder/debootstrap.log")"
    touch "$system/complete"
fi
leave() { umount -l "$used/proc" "$used/dev" 2>/dev/null || true; }
leave
rm -rf "$used"
cp -a "$system" "$used"
trap leave EXIT
mount -t proc proc "$used/proc"
mount --bind /dev "$used/dev"
# Packages come from where this machine has them, with what is said about proxies and certificates.
rm -rf "$used/etc/apt/sources.list.d" "$used/etc/apt/apt.conf.d"
cp -a /etc/apt/. "$used/etc/apt/"
mkdir -p "$used/usr/share/keyrings" "$used/etc/ssl"
cp -a /usr/share/keyrings/. "$used/usr/share/keyrings/"
cp -aL /etc/ssl/certs "$used/etc/ssl/" 2>/dev/null || true
cp /etc/resolv.conf /etc/hosts "$used/etc/"
inside() { chroot "$used" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} "$@"; }

inside apt-get update >"$folder/apt.log" 2>&1 || not_here "apt in the bare system: $(tail -n 2 "$folder/apt.log")"
inside find / -xdev -type f -path '*cadvlm*' >"$folder/before"
cp "$deb" "$used/tmp/"
inside apt-get install -y --no-install-recommends "/tmp/$(basename "$deb")" >"$folder/apt.log" 2>&1 || fail "apt-get install: $(tail -n 5 "$folder/apt.log")"
! inside sh -c 'command -v gcc cmake python3' >/dev/null || fail "the bare system is not bare"

# ---- as a user has it ----

cp tests/launch/installation.sh "$used/tmp/"
inside useradd -m somebody
inside su somebody -c 'bash /tmp/installation.sh --prefix /usr' || fail "without mpirun"
inside apt-get install -y --no-install-recommends openmpi-bin >"$folder/apt.log" 2>&1 || fail "openmpi-bin: $(tail -n 2 "$folder/apt.log")"
inside su somebody -c 'bash /tmp/installation.sh --prefix /usr' || fail "with mpirun"

# ---- and is rid of it ----

inside apt-get purge -y cadvlm >"$folder/apt.log" 2>&1 || fail "apt-get purge: $(tail -n 2 "$folder/apt.log")"
inside sh -c 'rm -f /tmp/cadvlm*.deb; ls -d /usr/bin/cadvlm* /usr/share/cadvlm /usr/share/doc/cadvlm 2>/dev/null' >"$folder/left" && fail "left behind: $(cat "$folder/left")"
echo "$(basename "$deb"), $(du -k "$deb" | cut -f 1) KiB: installed in a bare $suite, used, removed"
