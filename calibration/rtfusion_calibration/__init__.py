"""Makes two real cameras agree. Nothing here yet; the calibration file itself is read by `rtfusion.registration`."""
