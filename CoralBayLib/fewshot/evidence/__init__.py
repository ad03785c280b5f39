"""What one CT says of a prompted structure beside its deep features: intensity, position, geodesic distance."""

from .scan import ScanEvidence, evidence_of, use_evidence

__all__ = ["ScanEvidence", "evidence_of", "use_evidence"]
