package identity

import "github.com/sovereignmesh/meshkey/keys"

// Words returns three confirmation words for the channel binding of an enrolment. Both ends show them and people compare them; they
// are words of H("meshkey/1 words" || h), so they say nothing of h and are made for no other purpose.
//
// 24 bits are enough because a comparison happens once, while the session is open: whoever sits in between gets one try at a collision
// it cannot compute beforehand, since both ends contribute to the channel binding.
func Words(h keys.Hash) [3]string { return words(keys.ConfirmationHash(h)) }

// Words returns the three words by which people compare a request that travels as a file: of H("meshkey/1 csr-words" || ID).
func (c *SignedCSR) Words() [3]string { return words(keys.RequestHash(c.ID)) }

// words takes one word for each of the first three bytes.
func words(h keys.Hash) [3]string {
	return [3]string{wordList[h[0]], wordList[h[1]], wordList[h[2]]}
}

// wordList has one word for each byte, in alphabetical order: common words of 4 to 7 letters that differ in at least three letters
// from each other and in one of the first three, so that neither a slip of the pen nor a bad line turns one into another. Its order
// is part of the protocol.
var wordList = [256]string{
	"acorn", "adobe", "agent", "alarm", "alloy", "alpha", "anvil", "apple",
	"apron", "armor", "aspen", "atlas", "atoll", "autumn", "avenue", "azure",
	"bagel", "banjo", "birch", "bishop", "bolt", "bonus", "border", "bottle",
	"branch", "bread", "bridge", "bronze", "brush", "bubble", "butter", "cedar",
	"cello", "chalk", "cinema", "circus", "clay", "clover", "cobalt", "cocoa",
	"coffee", "copper", "cotton", "cougar", "crater", "cube", "daisy", "dancer",
	"dawn", "delta", "denim", "desert", "diamond", "dolphin", "domino", "donkey",
	"dragon", "drum", "eagle", "earth", "eclipse", "editor", "elbow", "emerald",
	"empire", "engine", "envoy", "epoch", "equator", "estate", "evening", "exit",
	"fabric", "falcon", "feather", "fern", "fiddle", "field", "figure", "flame",
	"flint", "forest", "fossil", "fudge", "funnel", "furnace", "galaxy", "garden",
	"gazelle", "gecko", "geyser", "ginger", "giraffe", "glacier", "goblet", "gondola",
	"gorilla", "gravel", "guitar", "gull", "habitat", "hammer", "harvest", "helmet",
	"hexagon", "hickory", "hippo", "hornet", "husky", "iceberg", "igloo", "indigo",
	"inkwell", "insect", "island", "ivory", "jaguar", "jasmine", "jersey", "jigsaw",
	"jungle", "jupiter", "kayak", "kernel", "kiosk", "kiwi", "koala", "ladder",
	"lagoon", "lantern", "laptop", "lemon", "leopard", "lettuce", "library", "lichen",
	"lilac", "lizard", "locket", "lumber", "lunar", "lynx", "magnet", "marble",
	"mascot", "matrix", "meadow", "mercury", "meteor", "mirror", "monsoon", "moose",
	"mosaic", "muffin", "museum", "napkin", "nebula", "nectar", "needle", "nickel",
	"nugget", "nutmeg", "oasis", "ocean", "octopus", "office", "olive", "onion",
	"onyx", "opal", "opera", "orange", "orbit", "orchid", "osprey", "oxygen",
	"oyster", "parcel", "pasta", "peanut", "pencil", "piano", "picnic", "pigeon",
	"pillow", "pirate", "plaza", "poplar", "potato", "prism", "pulley", "puzzle",
	"quarry", "quiver", "rabbit", "radio", "raft", "rainbow", "recipe", "reef",
	"ribbon", "robin", "rope", "scarf", "shell", "siren", "sofa", "spider",
	"spruce", "square", "stable", "stork", "studio", "summit", "sunset", "swan",
	"swift", "symbol", "teapot", "temple", "tennis", "thistle", "thunder", "toast",
	"tower", "tractor", "trumpet", "tulip", "tundra", "turtle", "tuxedo", "unicorn",
	"uranium", "urban", "vacuum", "vanilla", "vapor", "vessel", "viking", "village",
	"vinyl", "violet", "volcano", "voyage", "waffle", "walnut", "window", "wombat",
	"wool", "yacht", "yogurt", "zebra", "zenith", "zigzag", "zinc", "zircon",
}
