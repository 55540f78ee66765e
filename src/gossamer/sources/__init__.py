"""Where configuration and endpoints come from. A source publishes values; what they mean is not its business."""
