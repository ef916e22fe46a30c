# Debian's packages of another suite than this machine's: sourced. Lists and cache are in a folder; the machine's apt is only asked
# where its mirror is.

# mirror LABEL DEFAULT: where this machine gets Debian's packages from.
mirror() {
    local uri
    uri=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk -v l="$1" '$1 == l && !n++ {print $2}')
    echo "${uri:-$2}"
}

# use_suite SUITE WORK: sets the array apt, the options of apt-get and apt-cache, and gets the lists.
use_suite() {
    local suite=$1 work=$2 key=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$work"/{lists/partial,cache/archives/partial}
    : >"$work/status"
    [ -e $key ] || key=/usr/share/keyrings/debian-archive-keyring.pgp
    echo "deb [signed-by=$key] $(mirror Debian http://deb.debian.org/debian) $suite main" >"$work/sources.list"
    case $suite in
        *-backports | sid) ;;
        *) echo "deb [signed-by=$key] $(mirror Debian-Security http://deb.debian.org/debian-security) $suite-security main" >>"$work/sources.list" ;;
    esac
    apt=(-qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o "Dir::State::Lists=$work/lists" -o "Dir::State::status=$work/status"
        -o "Dir::Cache=$work/cache" -o Debug::NoLocking=1 -o Acquire::Languages=none -o "APT::Sandbox::User=$(id -un)")
    apt-get "${apt[@]}" update
}

# unpack DIR PACKAGE...: downloads them and unpacks them there.
unpack() {
    local root=$1 debs
    debs=$(mktemp -d -p "$(dirname "$root")")
    (cd "$debs" && apt-get "${apt[@]}" download "${@:2}" && for deb in *.deb; do dpkg -x "$deb" "$root"; done)
    rm -rf "$debs"
}
