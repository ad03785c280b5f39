"""The panel of a cohort of scans."""
