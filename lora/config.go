package lora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Files of an adapter folder.
const (
	configName  = "adapter_config.json"
	weightsName = "adapter_model.safetensors"
	maxJSON     = 16 << 20 // bytes of a JSON file, read whole
)

// Config is adapter_config.json as PEFT writes it.
type Config struct {
	Path                   string
	R                      int
	Alpha                  float64
	UseRSLoRA, UseDoRA     bool
	RankPattern            []Pattern // in file order: the first that matches counts
	AlphaPattern           []Pattern
	ModulesToSave          []string
	Bias                   string // none, all or lora_only
	LoraBias               bool
	EnsureWeightTying      bool
	TrainableTokenIndices  map[string][]int64 // by module name
	TargetParameters       []string
	TargetModules, Exclude Matcher
	LayersToTransform      []int64
	LayersPattern          []string
	BaseModel              string // as the trainer called it
}

// effect is what a key of adapter_config.json does to a merge.
type effect int

const (
	honoured     effect = iota // changes the merge, and the merge follows it
	onlyDefault                // changes the merge in a way that is not done here: refused unless empty
	withoutTrace               // has no effect on a merge
)

// configKeys lists the keys of PEFT 0.21's LoraConfig and PeftConfig.
var configKeys = map[string]effect{
	"peft_type": honoured, "r": honoured, "lora_alpha": honoured, "use_rslora": honoured, "use_dora": honoured,
	"rank_pattern": honoured, "alpha_pattern": honoured, "modules_to_save": honoured, "bias": honoured,
	"lora_bias": honoured, "ensure_weight_tying": honoured, "trainable_token_indices": honoured,
	"target_parameters": honoured, "target_modules": honoured, "exclude_modules": honoured,
	"layers_to_transform": honoured, "layers_pattern": honoured, "base_model_name_or_path": honoured,
	"init_lora_weights": honoured, // some ways change the base when the adapter is made

	"alora_invocation_tokens": onlyDefault, "arrow_config": onlyDefault, "kasa_config": onlyDefault,
	"layer_replication": onlyDefault, "monteclora_config": onlyDefault, "use_bdlora": onlyDefault, "use_qalora": onlyDefault,

	"auto_mapping": withoutTrace, "corda_config": withoutTrace, "eva_config": withoutTrace, "lora_ga_config": withoutTrace,
	"loftq_config": withoutTrace, "fan_in_fan_out": withoutTrace, // PEFT takes it back on linear layers
	"inference_mode": withoutTrace, "lora_dropout": withoutTrace, "megatron_config": withoutTrace,
	"megatron_core": withoutTrace, "peft_version": withoutTrace, "qalora_group_size": withoutTrace, "revision": withoutTrace,
	"runtime_config": withoutTrace, "task_type": withoutTrace, "velora_config": withoutTrace,
}

// harmlessInit are ways to begin training that leave the base weights as they are.
var harmlessInit = []string{"true", "false", "gaussian", "orthogonal", "eva", "mica"}

// configFile is the JSON form.
type configFile struct {
	PeftType              string          `json:"peft_type"`
	R                     json.Number     `json:"r"`
	Alpha                 json.Number     `json:"lora_alpha"`
	UseRSLoRA             bool            `json:"use_rslora"`
	UseDoRA               bool            `json:"use_dora"`
	RankPattern           json.RawMessage `json:"rank_pattern"`
	AlphaPattern          json.RawMessage `json:"alpha_pattern"`
	ModulesToSave         []string        `json:"modules_to_save"`
	Bias                  string          `json:"bias"`
	LoraBias              bool            `json:"lora_bias"`
	EnsureWeightTying     bool            `json:"ensure_weight_tying"`
	TrainableTokenIndices json.RawMessage `json:"trainable_token_indices"`
	TargetParameters      []string        `json:"target_parameters"`
	TargetModules         json.RawMessage `json:"target_modules"`
	ExcludeModules        json.RawMessage `json:"exclude_modules"`
	LayersToTransform     json.RawMessage `json:"layers_to_transform"`
	LayersPattern         json.RawMessage `json:"layers_pattern"`
	BaseModel             *string         `json:"base_model_name_or_path"`
	InitLoraWeights       json.RawMessage `json:"init_lora_weights"`
}

// ReadConfig reads adapter_config.json of the folder dir. A key that changes a merge
// in a way that is not done here, or that is not known and not empty, is refused.
func ReadConfig(dir string) (*Config, error) {
	path := filepath.Join(dir, configName)
	data, err := readLimited(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read adapter %s: got no %s, want a folder that PEFT's save_pretrained wrote: %w", dir, configName, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	c, err := parseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	c.Path = path
	return c, nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err == nil && len(data) > maxJSON {
		err = fmt.Errorf("got more than %d bytes, want at most that", maxJSON)
	}
	return data, err
}

func parseConfig(data []byte) (*Config, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, err
	}
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	var f configFile
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if f.PeftType != "LORA" {
		return nil, fmt.Errorf("peft_type: got %q, want LORA", f.PeftType)
	}
	if err := checkInit(f.InitLoraWeights); err != nil {
		return nil, err
	}
	c := &Config{
		UseRSLoRA: f.UseRSLoRA, UseDoRA: f.UseDoRA, ModulesToSave: f.ModulesToSave, Bias: f.Bias, LoraBias: f.LoraBias,
		EnsureWeightTying: f.EnsureWeightTying, TargetParameters: f.TargetParameters,
	}
	if f.BaseModel != nil {
		c.BaseModel = *f.BaseModel
	}
	return c, c.read(&f)
}

// read takes over the values that need checking.
func (c *Config) read(f *configFile) error {
	r, err := f.R.Int64()
	if err != nil || r < 1 || r > 1<<20 {
		return fmt.Errorf("r: got %q, want a positive integer", f.R)
	}
	c.R = int(r)
	if c.Alpha, err = f.Alpha.Float64(); err != nil || math.IsInf(c.Alpha, 0) {
		return fmt.Errorf("lora_alpha: got %q, want a number", f.Alpha)
	}
	if c.Bias == "" {
		c.Bias = "none"
	}
	if !slices.Contains([]string{"none", "all", "lora_only"}, c.Bias) {
		return fmt.Errorf("bias: got %q, want none, all or lora_only", c.Bias)
	}
	for _, step := range []struct {
		key  string
		read func() error
	}{
		{"rank_pattern", func() (err error) { c.RankPattern, err = readPatterns(f.RankPattern); return }},
		{"alpha_pattern", func() (err error) { c.AlphaPattern, err = readPatterns(f.AlphaPattern); return }},
		{"trainable_token_indices", func() (err error) { c.TrainableTokenIndices, err = readTokens(f.TrainableTokenIndices); return }},
		{"target_modules", func() (err error) { c.TargetModules, err = readMatcher(f.TargetModules); return }},
		{"exclude_modules", func() (err error) { c.Exclude, err = readMatcher(f.ExcludeModules); return }},
		{"layers_to_transform", func() (err error) { c.LayersToTransform, err = readList[int64](f.LayersToTransform); return }},
		{"layers_pattern", func() (err error) { c.LayersPattern, err = readList[string](f.LayersPattern); return }},
	} {
		if err := step.read(); err != nil {
			return fmt.Errorf("%s: %w", step.key, err)
		}
	}
	for _, p := range c.RankPattern {
		if p.Value < 1 || p.Value != math.Trunc(p.Value) || p.Value > 1<<20 {
			return fmt.Errorf("rank_pattern: %q: got %v, want a positive integer", p.Key, p.Value)
		}
	}
	return nil
}

// checkKeys refuses keys by the table.
func checkKeys(keys map[string]json.RawMessage) error {
	for _, key := range sortedKeys(keys) {
		does, known := configKeys[key]
		switch {
		case isEmpty(keys[key]), known && does != onlyDefault:
		case known:
			return fmt.Errorf("%s: got %s, want it unset: a merge with it is not supported", key, short(keys[key]))
		default:
			return fmt.Errorf("%s: unknown key: got %s, want null, false, 0 or nothing: what it does to a merge is not known", key, short(keys[key]))
		}
	}
	return nil
}

// checkInit refuses ways of initialisation that changed the base weights.
func checkInit(raw json.RawMessage) error {
	if raw == nil {
		return nil
	}
	name := strings.ToLower(strings.Trim(string(raw), `"`))
	if name == "null" || slices.Contains(harmlessInit, name) {
		return nil
	}
	return fmt.Errorf("init_lora_weights: got %s, want one of %s: others change the base weights when training begins, so that a merge into the base as it lies in its files is wrong (PEFT can convert such an adapter: save_pretrained(…, path_initial_model_for_weight_conversion=…))",
		raw, strings.Join(harmlessInit, ", "))
}

// isEmpty tells whether a value is null, false, zero or empty.
func isEmpty(raw json.RawMessage) bool {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return false
	}
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case float64:
		return v == 0
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// short is a value for an error message.
func short(raw json.RawMessage) string {
	const most = 60
	if s := string(raw); len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(string(raw[:most]), "") + "…"
}
