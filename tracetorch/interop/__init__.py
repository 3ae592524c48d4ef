"""Networks of traceTorch in exchange formats: NIR and safetensors. The libraries are optional extras."""

from tracetorch.interop.nir_graph import TARGETS, from_nir, read_nir, to_nir, write_nir
from tracetorch.interop.tensors import read_safetensors, write_safetensors

__all__ = ["TARGETS", "from_nir", "read_nir", "read_safetensors", "to_nir", "write_nir", "write_safetensors"]
