# Made from the parser by tools/generate: edit cptbpf/cli/.
_cptbpf() {
    local word=$2 before=$3 i command=
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in -*) ;; *) command=${COMP_WORDS[i]}; break ;; esac
    done
    case $command:$before in
        snapshot:--pidns) return ;;
        snapshot:--pid) return ;;
        snapshot:-o|snapshot:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        snapshot:--registers) COMPREPLY=($(compgen -W 'ptrace bpf' -- "$word")); return ;;
        snapshot:--timeout) return ;;
        show:--format) COMPREPLY=($(compgen -W 'tree table json' -- "$word")); return ;;
        show:--task) return ;;
        show:--fields) return ;;
        show:--at) return ;;
        decode:-o|decode:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        encode:-o|encode:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        crosscheck:--pidns) return ;;
        crosscheck:--pid) return ;;
        crosscheck:--watch) return ;;
        sample:--pidns) return ;;
        sample:--pid) return ;;
        sample:--interval) return ;;
        sample:--duration) return ;;
        sample:-o|sample:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        sample:--format) COMPREPLY=($(compgen -W 'cpt jsonl csv' -- "$word")); return ;;
        sample:--events) return ;;
        sample:--fields) return ;;
        sample:--rotate) return ;;
        sample:--prometheus) return ;;
        sample:--buffer) return ;;
        top:--pidns) return ;;
        top:--pid) return ;;
        top:--interval) return ;;
        top:--count) return ;;
        replay:--start) return ;;
        replay:--step) return ;;
        export:--format) COMPREPLY=($(compgen -W 'jsonl csv parquet perfetto' -- "$word")); return ;;
        export:-o|export:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        export:--fields) return ;;
    esac
    case $command in
        '') COMPREPLY=($(compgen -W 'check list snapshot show decode encode diff crosscheck sample top replay export fields --version --debug -h --help' -- "$word")) ;;
        check) COMPREPLY=($(compgen -W '--json -h --help' -- "$word")) ;;
        list) COMPREPLY=($(compgen -W '--json -h --help' -- "$word")) ;;
        snapshot) COMPREPLY=($(compgen -W '--pidns --pid -o --output --no-freeze --registers --timeout -f --force --json -h --help' -- "$word")) ;;
        show) COMPREPLY=($(compgen -W '--format --task --fields --at -h --help' -- "$word")); [[ $word == -?* ]] || COMPREPLY+=($(compgen -f -- "$word")) ;;
        decode) COMPREPLY=($(compgen -W '-o --output -f --force -h --help' -- "$word")); [[ $word == -?* ]] || COMPREPLY+=($(compgen -f -- "$word")) ;;
        encode) COMPREPLY=($(compgen -W '-o --output -f --force -h --help' -- "$word")); [[ $word == -?* ]] || COMPREPLY+=($(compgen -f -- "$word")) ;;
        diff) COMPREPLY=($(compgen -W '--json -h --help' -- "$word")); [[ $word == -?* ]] || COMPREPLY+=($(compgen -f -- "$word")) ;;
        crosscheck) COMPREPLY=($(compgen -W '--pidns --pid --no-freeze --watch --json -h --help' -- "$word")) ;;
        sample) COMPREPLY=($(compgen -W '--pidns --pid --interval --duration -o --output --format --events --fields --rotate --prometheus --buffer -f --force -h --help' -- "$word")) ;;
        top) COMPREPLY=($(compgen -W '--pidns --pid --interval --count -h --help' -- "$word")) ;;
        replay) COMPREPLY=($(compgen -W '--start --step --samples -h --help' -- "$word")); [[ $word == -?* ]] || COMPREPLY+=($(compgen -f -- "$word")) ;;
        export) COMPREPLY=($(compgen -W '--format -o --output --fields -f --force -h --help' -- "$word")); [[ $word == -?* ]] || COMPREPLY+=($(compgen -f -- "$word")) ;;
        fields) COMPREPLY=($(compgen -W '--json -h --help' -- "$word")) ;;
    esac
}
complete -o filenames -F _cptbpf cptbpf
