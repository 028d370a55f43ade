"""The decoder of the 0.89B model, OpenELM-450M: what differs from layer to layer (config.json on the hub)."""

Q_HEADS = [12] * 3 + [16] * 7 + [20] * 6 + [24] * 4
FFN = [768, 1024, 1280, 1536, 1792, 2304, 2560, 2816, 3072, 3328, 3584, 3840, 4096, 4352, 4608, 5120, 5376, 5632, 5888, 6144]
