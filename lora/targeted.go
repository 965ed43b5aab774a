package lora

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func sortedInts[V any](m map[int]V) []int { return slices.Sorted(maps.Keys(m)) }

// targetsParameter tells whether a parameter is in target_parameters.
func (c *Config) targetsParameter(path string) bool {
	return slices.ContainsFunc(c.TargetParameters, func(name string) bool { return isModule(path, name) })
}

// tokensOf gives the ids of a module's replacement rows.
func (c *Config) tokensOf(path string) []int64 {
	for _, name := range sortedKeys(c.TrainableTokenIndices) {
		if isModule(path, name) {
			return c.TrainableTokenIndices[name]
		}
	}
	if len(c.TrainableTokenIndices) == 1 { // a list is for the input embedding, whatever its name
		return c.TrainableTokenIndices["embed_tokens"]
	}
	return nil
}

// checkTargeted refuses an adapter that lacks tensors of a module that it targets,
// and one that has tensors of modules that it does not.
func (b *binder) checkTargeted(a *Adapter) error {
	c := a.Config
	if c.TargetModules.opaque != "" || c.Exclude.opaque != "" || !c.TargetModules.isSet() {
		return nil // a Python expression that Go does not have, or parameters only
	}
	for _, name := range sortedKeys(b.targets) {
		path, ok := strings.CutSuffix(name, ".weight")
		if !ok || len(b.targets[name].shape) != 2 || strings.Contains(path, ".experts.") {
			continue // experts are one parameter in transformers 5, modules in 4
		}
		if path == "lm_head" && b.noHead || !c.targets(path) {
			continue
		}
		if m := a.findModule(path); m == nil || m.levels[0] == nil {
			return fmt.Errorf("read %s: module %s: %s targets it: got no lora_A and lora_B, want both", a.file.Path, path, c.Path)
		}
	}
	return nil
}

// findModule gives the adapter's module of a path of the base.
func (a *Adapter) findModule(path string) *module {
	for _, p := range []string{path, "model." + path, strings.TrimPrefix(path, "model.")} {
		if m := a.modules[p]; m != nil {
			return m
		}
	}
	return nil
}

var layerNumber = regexp.MustCompile(`^(?:.*\.)?([^.]*)\.(\d+)\.`)

// targets tells whether the configuration chooses a module
// (PEFT's BaseTuner check_target_module_exists).
func (c *Config) targets(path string) bool {
	// A router is a parameter in transformers 5, a linear layer in 4.
	linear := !isEmbedding(path+".weight") && path != "lm_head" && !isModule(path, "mlp.gate")
	if c.Exclude.isSet() && c.Exclude.match(path, linear) || !c.TargetModules.match(path, linear) {
		return false
	}
	if len(c.LayersToTransform) == 0 {
		return true
	}
	m := layerNumber.FindStringSubmatch(path)
	if m == nil || len(c.LayersPattern) > 0 && !slices.Contains(c.LayersPattern, m[1]) {
		return false
	}
	n, err := strconv.ParseInt(m[2], 10, 64)
	return err == nil && slices.Contains(c.LayersToTransform, n)
}
