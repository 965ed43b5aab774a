package convert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// outFile decides the name of the output: given, or the reference's default
// name in the given folder or the model folder.
func outFile(dir, given string, meta *metadata, outType string) (string, error) {
	if given == "" {
		given = dir
	}
	if st, err := os.Stat(given); err == nil && st.IsDir() {
		return filepath.Join(given, defaultName(meta, outType)+".gguf"), nil
	}
	parent, name := filepath.Split(given)
	name, err := fillTemplate(name, outType)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", given, err)
	}
	return filepath.Join(parent, name), nil
}

// fillTemplate puts the output type into a file name, by the rules of Python's
// str.format.
func fillTemplate(name, outType string) (string, error) {
	upper := strings.ToUpper(outType)
	fields := map[string]string{
		"": outType, "0": outType, "ftype": outType, "outtype": outType, "FTYPE": upper, "OUTTYPE": upper,
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(name) && name[i+1] == c:
			b.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(name[i:], '}')
			if end < 0 {
				return "", errors.New("file name: a brace without end; write {{ for a brace")
			}
			field, ok := fields[name[i+1:i+end]]
			if !ok {
				return "", fmt.Errorf("file name: got {%s}, want {ftype} or {FTYPE}; write {{ for a brace", name[i+1:i+end])
			}
			b.WriteString(field)
			i += end
		case c == '}':
			return "", errors.New("file name: a closing brace without an opening one; write }} for a brace")
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
