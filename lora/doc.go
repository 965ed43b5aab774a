// Package lora reads PEFT LoRA adapters and merges them into a base model without
// PyTorch, without a GPU and without holding a model in memory.
//
// [Open] reads a base folder and any number of adapter folders, checks them
// against each other, and gives a [Merge]: the merged model as computed tensors
// ([Merge.Model]), read row by row from the base with the adapters' part added,
// and the other files of a model folder. [Merge.Write] writes a folder that
// transformers loads; package convert reads the same tensors on their way into a
// GGUF file. [ReadFactors] gives the plain low-rank pairs of an adapter, for a GGUF
// adapter file.
//
// The arithmetic is float32, rounded once to the output's dtype:
//
//	W' = W + s·B·A            s = alpha/r, or alpha/√r with use_rslora
//	W' = W + Σ wᵢ·sᵢ·Bᵢ·Aᵢ     several adapters with weights
//	W' = m/‖W + s·B·A‖ · (W + s·B·A)   DoRA, the norm per row (per column of an embedding)
//
// with W [out, in], A [r, in], B [out, r], m [out]. What PEFT 0.21 does is the
// standard (its tuners/lora/layer.py and variants.py), and the tests compare with it.
// Where PEFT's own merge gives something else than the model that was trained, which
// is so for LoRA on one side of tied embeddings, the two sides are separated.
//
// Nothing is passed over in silence: every key of adapter_config.json is in a table
// (config.go), every tensor of the adapter must be used, every shape must fit, and
// every module that the adapter targets must have its tensors.
package lora
