include $(BR2_EXTERNAL_TIDEGATE_PATH)/tidegate.mk
