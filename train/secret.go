package train

import (
	"encoding/json"
	"regexp"
	"sort"
	"strings"
)

// secretName are the names of environment variables whose values must not be written anywhere.
var secretName = regexp.MustCompile(`(?i)TOKEN|KEY|SECRET|PASSW|CREDENTIAL`)

// minSecret is the least length of a value that is taken for a secret: shorter ones are settings.
const minSecret = 8

// newScrubber returns a replacer that takes the values of secret variables in env out of a text, also as they are
// spelled inside JSON.
func newScrubber(env []string) *strings.Replacer {
	var secrets []string
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if !secretName.MatchString(name) || len(value) < minSecret {
			continue
		}
		secrets = append(secrets, value)
		if quoted, err := json.Marshal(value); err == nil {
			secrets = append(secrets, strings.Trim(string(quoted), `"`))
		}
	}
	sort.Slice(secrets, func(i, j int) bool { return len(secrets[i]) > len(secrets[j]) }) // one may contain another
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, "[secret]")
	}
	return strings.NewReplacer(pairs...)
}

// lookEnv gives the last value of a variable in env.
func lookEnv(env []string, name string) string {
	value := ""
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}
