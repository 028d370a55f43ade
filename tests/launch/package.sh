#!/usr/bin/env bash
# The Debian package, in a bare system of its own: builds it, installs it there with what it depends on, uses it as a user without
# rights (installation.sh), removes it, and looks for what is left.
#
#   package.sh          needs root, debootstrap and this machine's package sources; ends with 3, and a sentence, where they are not
#
# The bare system stays in build/package/system, and what its packages came as in build/package/archives; a second run begins with them.
# What is mounted is seen by the command inside alone and gone with it: nothing has to be unmounted before the copy is removed.
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
unshare --mount true 2>/dev/null || not_here "this system lets nobody mount, not even root (a container?)"

# ---- the package ----

mkdir -p "$folder"
cmake --preset release -B "$folder/build" -DCADVLM_CUDA=OFF -DCADVLM_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr >"$folder/configure.log"
cmake --build "$folder/build" --target cadvlm cadvlm-cad cadvlm_pages >"$folder/build.log" || fail "$(tail -n 5 "$folder/build.log")"
rm -f "$folder"/build/*.deb
(cd "$folder/build" && cpack -G DEB -D CPACK_CMAKE_GENERATOR=Ninja >"$folder/cpack.log" 2>&1) || fail "cpack: $(tail -n 5 "$folder/cpack.log")"
deb=$(find "$folder/build" -maxdepth 1 -name '*.deb')
[ -f "$deb" ] || fail "no package was made"
depends=$(dpkg-deb -f "$deb" Depends)
rm -rf "$folder/content"
dpkg-deb -x "$deb" "$folder/content"
for program in cadvlm cadvlm-cad; do
    readelf -d "$folder/content/usr/bin/$program" >"$folder/readelf.log" || fail "the package has no $program"
    if grep -E 'RPATH|RUNPATH' "$folder/readelf.log"; then fail "$program of the package has a path of libraries of its own"; fi
done
for library in libopenmpi libhdf5 libyaml libocct libdnnl libcurl; do
    case $depends in *$library*) ;; *) fail "the package does not depend on $library: $depends" ;; esac
done

# ---- the bare system ----

# shellcheck disable=SC2016  # apt's own variable
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | head -n 1)
if [ ! -e "$system/complete" ]; then
    rm -rf --one-file-system "$system"
    debootstrap --variant=minbase "$suite" "$system" ${mirror:+"$mirror"} >"$folder/debootstrap.log" 2>&1 ||
        not_here "no bare system: $(tail -n 2 "$folder/debootstrap.log")"
    touch "$system/complete"
fi
rm -rf --one-file-system "$used"
cp -a "$system" "$used"
mkdir -p "$folder/archives/partial"
# Packages come from where this machine has them, with what is said about proxies and certificates; passwords for them stay here.
rm -rf "$used/etc/apt/sources.list.d" "$used/etc/apt/apt.conf.d"
cp -a /etc/apt/. "$used/etc/apt/"
rm -rf "$used"/etc/apt/auth.conf*
mkdir -p "$used/usr/share/keyrings" "$used/etc/ssl"
cp -a /usr/share/keyrings/. "$used/usr/share/keyrings/"
cp -aL /etc/ssl/certs "$used/etc/ssl/" 2>/dev/null || true
cp /etc/resolv.conf /etc/hosts "$used/etc/"
# Images of containers leave out manuals and pages, and throw downloads away: not here.
rm -f "$used"/etc/dpkg/dpkg.cfg.d/docker* "$used"/etc/apt/apt.conf.d/docker-*

# inside COMMAND…: as root in the bare system, which sees its own processes' /proc and the archives
# shellcheck disable=SC2016  # of the shell in there
inside() {
    unshare --mount sh -c 'root=$1 archives=$2 && shift 2 && mount -t proc proc "$root/proc" && mount --bind "$archives" "$root/var/cache/apt/archives" &&
        exec chroot "$root" "$@"' inside "$used" "$folder/archives" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} "$@"
}
# apt COMMAND…: apt-get in the bare system; what it says is in apt.log
apt() { inside apt-get -o APT::Keep-Downloaded-Packages=true "$@" >"$folder/apt.log" 2>&1; }
log() { tail -n "$1" "$folder/apt.log"; }

inside true || not_here "nothing can be mounted and run in $used"
apt update || not_here "apt in the bare system: $(log 2)"
apt install -y --no-install-recommends man-db || not_here "man-db in the bare system: $(log 2)"
cp "$deb" "$used/tmp/"
apt install -y --no-install-recommends "/tmp/$(basename "$deb")" || fail "apt-get install: $(log 5)"
if inside sh -c 'command -v gcc || command -v cmake || command -v python3'; then fail "the bare system is not bare"; fi
inside dpkg -L cadvlm | while read -r path; do [ ! -f "$used$path" ] || echo "$path"; done >"$folder/files"
for path in /usr/bin/cadvlm-cad /usr/share/doc/cadvlm/copyright /usr/share/zsh/vendor-completions/_cadvlm; do
    grep -qxF $path "$folder/files" || fail "the package has no $path"
done

# ---- as a user has it ----

cp tests/launch/installation.sh "$used/tmp/"
inside useradd -m somebody
as_user() { inside su somebody -c "$*"; }
[ "$(as_user man -w cadvlm)" = /usr/share/man/man1/cadvlm.1 ] || fail "man does not find the page"
as_user bash /tmp/installation.sh --prefix /usr || fail "without mpirun"
apt install -y --no-install-recommends zsh || fail "zsh: $(log 2)"
# shellcheck disable=SC2016  # zsh's own variable
[ "$(inside zsh -fc 'autoload -U compinit && compinit -u -D && print -r -- $_comps[cadvlm]')" = _cadvlm ] || fail "zsh does not find its completion"
apt install -y --no-install-recommends openmpi-bin || fail "openmpi-bin: $(log 2)"
as_user bash /tmp/installation.sh --prefix /usr || fail "with mpirun"

# ---- and is rid of it ----

apt remove -y cadvlm || fail "apt-get remove: $(log 2)"
while read -r path; do
    [ ! -e "$used$path" ] || fail "$path is left when the package is removed"
done <"$folder/files"
for path in /usr/share/cadvlm /usr/share/doc/cadvlm; do [ ! -e "$used$path" ] || fail "$path is left when the package is removed"; done
echo "$(basename "$deb"), $(du -k "$deb" | cut -f 1) KiB, $(wc -l <"$folder/files") files: installed in a bare $suite, used, removed"
