"""Every cloud that Apache Libcloud drives."""
