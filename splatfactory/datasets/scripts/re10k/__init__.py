"""RealEstate10K."""
