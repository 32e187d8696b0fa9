# tidegate from the tarball of `scripts/package-deb BOARD`: a static binary, so nothing is compiled here.
# Put this file into a layer as recipes-support/tidegate/, the tarball beside it in files/, and add tidegate to IMAGE_INSTALL.
SUMMARY = "Prometheus agent for boxes at the edge"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

# The board whose tarball is taken: a folder of boards/.
TIDEGATE_BOARD ?= "gateway-aarch64"
SRC_URI = "file://tidegate-${PV}-${TIDEGATE_BOARD}.tar.xz;subdir=${BP}"
S = "${WORKDIR}/${BP}"

inherit systemd useradd

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system tidegate"
USERADD_PARAM:${PN} = "--system --gid tidegate --home-dir /var/lib/tidegate --no-create-home --shell /sbin/nologin tidegate"
SYSTEMD_SERVICE:${PN} = "tidegate.service"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir} ${D}${systemd_system_unitdir}/tidegate.service.d ${D}${sysconfdir}/tidegate ${D}${nonarch_base_libdir}/udev/rules.d
    install -m 0755 ${S}/usr/bin/tidegate ${D}${bindir}/tidegate
    install -m 0644 ${S}/usr/lib/systemd/system/tidegate.service ${D}${systemd_system_unitdir}/
    install -m 0644 ${S}/usr/lib/systemd/system/tidegate.service.d/*.conf ${D}${systemd_system_unitdir}/tidegate.service.d/
    install -m 0644 ${S}/usr/lib/udev/rules.d/60-tidegate.rules ${D}${nonarch_base_libdir}/udev/rules.d/
    install -m 0640 -g tidegate ${S}/etc/tidegate/tidegate.yml ${D}${sysconfdir}/tidegate/tidegate.yml
    install -d -m 0700 ${D}${sysconfdir}/tidegate/secrets
}

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_base_libdir}/udev"
CONFFILES:${PN} = "${sysconfdir}/tidegate/tidegate.yml"
RRECOMMENDS:${PN} = "ca-certificates"
# Built elsewhere: stripped, static.
INSANE_SKIP:${PN} = "already-stripped ldflags"
