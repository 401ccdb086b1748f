"""The programs `lift` and `lift-trainer`; `start` checks what they need and starts them."""
