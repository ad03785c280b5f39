"""Evidence for a structure from the CT itself, in addition to deep features: intensity, position, geodesic distance."""

from .scan import ScanEvidence, evidence_of, use_evidence

__all__ = ["ScanEvidence", "evidence_of", "use_evidence"]
