# Completion of tracetorch for bash 4.4 or newer. Put this line into ~/.bashrc:
#     eval "$(tracetorch completion bash)"

_tracetorch_completion() {
    local kind value remark folder lead=""
    COMPREPLY=()
    # In bash, = and : end a word, so bash replaces only $2, the end of the incomplete word, and keeps the lead
    while IFS=$'\x1f' read -r kind value remark; do
        case $kind in
            lead) lead=$value ;;
            word) COMPREPLY+=("${value#"$lead"}") ;;
            key)
                compopt -o nospace
                COMPREPLY+=("${value#"$lead"}")
                ;;
            folder)
                compopt -o filenames -o nospace
                while IFS= read -r folder; do
                    folder=$remark$folder/  # the slash: after a lead, readline does not detect folders
                    COMPREPLY+=("${folder#"$lead"}")
                done < <(compgen -d -- "$value")
                ;;
        esac
    done < <(
        _TRACETORCH_COMPLETE=complete _TRACETORCH_COMPLETE_LINE=${COMP_LINE:0:COMP_POINT} \
            _TRACETORCH_COMPLETE_WORD=$2 "${1/#\~\//$HOME/}" 2>/dev/null
    )
}

complete -F _tracetorch_completion tracetorch
