"""Cloud that planapply is tested on: EC2 and S3 on loopback, with real machines."""
