package persona

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Hash is the SHA-256, in hex, of the persona text: the same in training data, in a Modelfile and in a client's
// configuration, or they are not of one character.
func (c *Card) Hash() string { return HashText(c.Persona) }

// HashText is the hash of a persona text found elsewhere. Line ends at its end do not count: they belong to the
// way it is stored.
func HashText(text string) string {
	sum := sha256.Sum256([]byte(strings.TrimRight(text, "\r\n")))
	return hex.EncodeToString(sum[:])
}
