################################################################################
#
# tidegate, from the tarball of `scripts/package-deb BOARD` (BR2_PACKAGE_TIDEGATE_TARBALL): a static binary, nothing is compiled.
# Use this folder with BR2_EXTERNAL.
#
################################################################################

TIDEGATE_VERSION = 0.1.0
TIDEGATE_TARBALL = $(call qstrip,$(BR2_PACKAGE_TIDEGATE_TARBALL))
TIDEGATE_SITE = $(patsubst %/,%,$(dir $(TIDEGATE_TARBALL)))
TIDEGATE_SITE_METHOD = file
TIDEGATE_SOURCE = $(notdir $(TIDEGATE_TARBALL))
TIDEGATE_STRIP_COMPONENTS = 0
TIDEGATE_LICENSE = MIT or Apache-2.0
TIDEGATE_LICENSE_FILES = usr/share/doc/tidegate/copyright

define TIDEGATE_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/usr/bin/tidegate $(TARGET_DIR)/usr/bin/tidegate
	$(INSTALL) -D -m 0640 $(@D)/etc/tidegate/tidegate.yml $(TARGET_DIR)/etc/tidegate/tidegate.yml
	$(INSTALL) -d -m 0700 $(TARGET_DIR)/etc/tidegate/secrets
	$(INSTALL) -D -m 0644 $(@D)/usr/lib/udev/rules.d/60-tidegate.rules $(TARGET_DIR)/usr/lib/udev/rules.d/60-tidegate.rules
endef

define TIDEGATE_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/usr/lib/systemd/system/tidegate.service $(TARGET_DIR)/usr/lib/systemd/system/tidegate.service
	$(INSTALL) -d $(TARGET_DIR)/usr/lib/systemd/system/tidegate.service.d
	$(INSTALL) -m 0644 $(@D)/usr/lib/systemd/system/tidegate.service.d/*.conf $(TARGET_DIR)/usr/lib/systemd/system/tidegate.service.d/
endef

define TIDEGATE_USERS
	tidegate -1 tidegate -1 * /var/lib/tidegate - - tidegate metrics agent
endef

define TIDEGATE_PERMISSIONS
	/etc/tidegate/tidegate.yml f 640 0 tidegate - - - - -
endef

$(eval $(generic-package))
