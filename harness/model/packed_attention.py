"""Self-attention with one product for queries, keys and values, on the parameters and names of nn.MultiheadAttention.

nn.MultiheadAttention turns its input to (N, B, D) and projects queries, keys and values into one tensor, from which it
copies all three; its backward pass copies them back. For 12 blocks these are 168 of the 869 kernels of a training step.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torchvision.models import VisionTransformer


class PackedAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention whose forward pass without weights keeps the batch first; equal to it up to rounding.

    Only for what VisionTransformer builds: self-attention with batch_first=True, one projection, no added tokens.
    """

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = True, average_attn_weights: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of tokens (B, N, D), given three times, to themselves: (B, N, D); and its weights if asked for."""
        if need_weights:
            return super().forward(query, key, value, average_attn_weights=average_attn_weights)
        packed = linear(query, self.in_proj_weight, self.in_proj_bias)  # (B, N, 3 D)
        queries, keys, values = packed.unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(queries, keys, values, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def pack_attention(model: VisionTransformer) -> None:
    """Replace the attention of all blocks by PackedAttention, with the same parameters under the same names."""
    for block in model.encoder.layers:
        plain = block.self_attention
        packed = PackedAttention(plain.embed_dim, plain.num_heads, plain.dropout, batch_first=True, device="meta")
        packed.in_proj_weight, packed.in_proj_bias, packed.out_proj = (
            plain.in_proj_weight,
            plain.in_proj_bias,
            plain.out_proj,
        )
        block.self_attention = packed
